"""The one trainer, and the small choices around it: device, precision, signals, checkpoints."""
