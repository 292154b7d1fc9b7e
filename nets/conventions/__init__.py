"""The settings that every net is built with: Keras' defaults and the order of the axes."""
