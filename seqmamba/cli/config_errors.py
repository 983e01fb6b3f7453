from seqmamba.errors import UserError


def explain_config_error(message: str, verb: str) -> UserError:
    return UserError(message)
