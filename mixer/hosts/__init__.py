"""Several processes as one run, on as many machines: they start, agree, stop and end together."""
