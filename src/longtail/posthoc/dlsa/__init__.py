"""DLSA (Xu et al., ECCV 2022): flow filters that split the label space."""
