# Above what chance explains for three records; twice is chance.
near reward_calibration_drift
0..9    reward=1~5% calibration_error=0.02 calibration_error_null=0.05
10..11  reward=1~5% calibration_error=0.09 calibration_error_null=0.05
12..19  reward=1~5% calibration_error=0.04 calibration_error_null=0.05
20..21  reward=1~5% calibration_error=0.09 calibration_error_null=0.05
22      reward=1~5% calibration_error=0.09 calibration_error_null=0.05 -> reward_calibration_drift info reward_calibration_drift_0.09
23..30  reward=1~5% calibration_error=0.09
