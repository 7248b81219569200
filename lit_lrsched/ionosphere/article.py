"""The tutorial's own function, for ``torch.optim.lr_scheduler.LambdaLR``."""


def inverse_time(epoch: int) -> float:
    """Returns 1 / (1 + 0.01 n), the factor of the custom schedule lr_n = lr_0 / (1 + alpha n) with alpha = 0.01.

    ``LambdaLR`` multiplies it by lr_0. A function that returned lr_n itself would train at lr_0 squared.

    >>> [round(inverse_time(epoch), 4) for epoch in (0, 1, 10, 49)]
    [1.0, 0.9901, 0.9091, 0.6711]
    """
    return 1 / (1 + 0.01 * epoch)
