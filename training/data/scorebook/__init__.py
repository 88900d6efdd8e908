"""The scorebook: captioned clips rendered from real scores and from pieces made by rule."""
