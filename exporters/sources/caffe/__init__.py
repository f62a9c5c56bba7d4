"""Networks from caffe."""
