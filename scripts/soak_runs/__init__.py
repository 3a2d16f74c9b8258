"""The soak: a trainer, a real monitor beside it, and something that goes wrong, many times over; then what must hold."""
