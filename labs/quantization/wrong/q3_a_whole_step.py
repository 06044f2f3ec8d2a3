"""Rounding to the nearest misses by at most half a step."""


def worst_error(scales):
    return scales * 1.0
