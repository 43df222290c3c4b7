"""Work across the frames of a shot: registration, fusion along the motion, flicker control."""
