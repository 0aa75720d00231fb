"""The method of Liu et al., CVPR 2021: network, losses, labelling rules, metrics. Knows no Ray, no argv."""
