"""Networks from keras."""
