"""The one error that is meant for people."""


class UserError(ValueError):
    """A mistake that the person at the keyboard can mend; printed alone, without a traceback, exit code 2."""
