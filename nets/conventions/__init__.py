"""What every net is built under: Keras' defaults and the order of the axes."""
