"""Percentiles as `dreamglass bench` gives them: between neighbours on a straight line."""


def percentile(values, share):
    """The value below which `share` (0 to 1) of the sorted `values` lie."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def median(values):
    """The middle value."""
    return percentile(values, 0.5)


def spread(values):
    """count, p50, p95 and p99 of `values`, in their unit."""
    return {
        "count": len(values),
        "p50": median(values),
        "p95": percentile(values, 0.95),
        "p99": percentile(values, 0.99),
    }
