"""Linear time-invariant state spaces with complex states: S4 and S4D.

S4: Gu et al. 2022, https://arxiv.org/abs/2111.00396; S4D: Gu et al. 2022, https://arxiv.org/abs/2206.11893.
Legend of the symbols, as in the papers: u input, delta step size, A state matrix (a diagonal, less the
rank-one product P P^* if there is a P), B input projection, C output projection, D skip, x state, K kernel of
the convolution. The discrete A and B, with a bar in the papers, are called ``transition`` and ``drive``.
"""

from seqmamba.ops.lti.api import bidirectional_lti, lti
from seqmamba.ops.lti.discretisation import LtiSystem, lti_discretise
from seqmamba.ops.lti.step import lti_state_step

__all__ = ["LtiSystem", "bidirectional_lti", "lti", "lti_discretise", "lti_state_step"]
