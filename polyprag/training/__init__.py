"""The joint training of pool and task router, with Lightning."""
