"""DPS: how a network that extends resolution learns from measurements alone, and how it is run."""
