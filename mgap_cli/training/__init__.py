"""The trainer, and the choices around it: device, precision, several processes, trackers."""
