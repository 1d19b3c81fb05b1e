"""The frozen base model, the expert pool around its layers, and the routers that gate it."""
