"""The score prior: a denoiser of each layer, given the decoder's feature at that layer."""
