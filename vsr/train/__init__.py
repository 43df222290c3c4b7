"""Everything that fits weights: to a keyframe, to a shot, to a data set."""
