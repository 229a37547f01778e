"""The control plane over HTTP; the one table from error to status code is in `goldenloop.api.errors`."""
