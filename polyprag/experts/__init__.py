"""The frozen base model, the expert pool around its layers, and the routers that gate it."""

import logging

# bitsandbytes warns at import that an optional kernel package is missing; its built-in kernels do the work
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
