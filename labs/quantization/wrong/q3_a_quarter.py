"""Rounding to the nearest misses by up to half a step, not a quarter."""


def worst_error(scales):
    return scales / 4
