"""The zoo: small real models trained with faults planted at known steps, for judging the judge."""
