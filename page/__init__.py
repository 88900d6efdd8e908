"""The page in the browser, in small parts; `app.py` starts it."""
