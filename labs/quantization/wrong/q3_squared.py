"""You give the mean of the squared error of a rounding, scale^2 / 12; what is asked is the largest
error.
"""


def worst_error(scales):
    return scales**2 / 12
