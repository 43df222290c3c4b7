"""Knowledge of a shot's degradation, and what follows from it: how far its input is trusted."""
