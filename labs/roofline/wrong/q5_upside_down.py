"""It is what was reached over what there is, not the other way round."""


def utilisation(flops, bytes, seconds, peak_flops, bandwidth):
    return peak_flops * seconds / flops, bandwidth * seconds / bytes
