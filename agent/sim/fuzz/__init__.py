"""Whatever comes over a wire, by the million: no parser may break on it, or take what is not what it says."""
