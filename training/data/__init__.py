"""Where training audio comes from: scores rendered with exact labels."""
