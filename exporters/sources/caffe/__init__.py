"""The source ``caffe:``: networks of Caffe, read without Caffe."""

from penult.exporters.sources.caffe.source import read_caffe

__all__ = ["read_caffe"]
