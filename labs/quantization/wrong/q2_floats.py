"""The codes should be of the dtype int8."""

import torch


def quantize(w, bits):
    scales = row_scales(w, bits)
    codes = (w / scales).round()
    return codes, scales


def dequantize(codes, scales):
    return codes * scales
