"""Arrays only: resampling, blur kernels, optical flow, noise, filters."""
