"""What tests of whole runs share."""

TIMES = ("fit_seconds", "adapt_seconds", "peak_rss_mb")


def without_times(rows):
    """The columns that must be the same in every run of the same suite."""
    return rows.drop(columns=list(TIMES))
