"""The one error that is meant for people, and what the system says in words for people."""


class UserError(ValueError):
    """A mistake that the person at the keyboard can mend; printed alone, without a traceback, exit code 2."""


REASONS = {
    FileNotFoundError: "no such file",
    NotADirectoryError: "no such file (a part of its path is a file)",
    PermissionError: "no permission to read it",
}


def in_one_sentence(error: Exception, uri: str) -> Exception:
    """The same kind of error, saying "URI: reason": pyarrow gives the path and the system's words twice over.

    An error whose words are its own comes back as it is.
    """
    if type(error) in REASONS:
        return type(error)(f"{uri}: {REASONS[type(error)]}")  # type: ignore[index]
    if isinstance(error, OSError) and "is a directory" in str(error):
        return IsADirectoryError(f"{uri}: is a folder, needed is a file")
    return error
