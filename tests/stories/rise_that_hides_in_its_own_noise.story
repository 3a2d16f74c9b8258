# A rise by a thousand in three hundred noisy steps widens the noise as it goes; it is told all the same.
use disabled_rules=drift,plateau,best_model,instability
0..199    loss=0.09,0.21,0.14,0.12,0.19,0.10,0.17,0.24,0.13,0.08,0.16,0.20,0.11
200..259  loss=0.11,0.27,0.18,0.15,0.25,0.13,0.22,0.31,0.17,0.10
260..319  loss=0.18,0.45,0.30,0.25,0.42,0.22,0.37,0.52,0.28,0.17
320..379  loss=0.5,1.3,0.9,0.7,1.2,0.6,1.1,1.5,0.8,0.5 -> divergence warning divergence_detected snapshot @349; snapshot divergence_not_recovered if newer
380..439  loss=3.5,9.1,6.3,4.9,8.4,4.2,7.7,10.5,5.6,3.5 -> loss_spike warning loss_spike_467.6pct snapshot @384; loss_spike warning loss_spike_420.3pct gated @386; loss_spike warning loss_spike_255.9pct gated @394; loss_spike warning loss_spike_226.3pct gated @396
440..500  loss=70,180,126,98,168,84,154,210,112,70 -> loss_spike warning loss_spike_2757.1pct gated @441
