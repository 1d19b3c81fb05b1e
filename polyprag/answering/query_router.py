"""The query router: from the text of a question to the passages whose gates it takes, without retrieval.

A question q becomes one vector: its tokens' states (`question_encoder`), whitened, scaled to length 1, weighted by a
learned weight for each vocabulary entry, added up, scaled to length 1 again. Weights start as inverse document
frequencies. A passage's key is made likewise from its text, rewrites and training questions, with BM25's weights
(Robertson and Zaragoza 2009: a word that occurs again counts less, long passages count less), so a key is a sketch of
what BM25 would see, and a new passage has one without training. Two designs turn vector and keys into gates:

    attention  a = softmax(c · (q + P q)ᵀ k_n) over passages n;  the gates of the passages with the largest weights
    mlp        gates from logits MLP(q) of shape [G, K]; the rows nearest to these gates say which passages

P starts at zero and is held near it, so that attention starts as cosine similarity with the keys.

Shapes: B questions, T tokens, D size of a state, V vocabulary, N passages, G routed groups, K experts, H hidden units.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyprag.answering.passage_keys import AllKeys, CodedKeys, Met
from polyprag.answering.question_encoder import QuestionEncoder, TokenStates, batches_of
from polyprag.config import RouterDesign, RoutingConfig
from polyprag.experts.routing import RowGates, blocks_of, gates_from_logits

K1, B = 1.2, 0.75
"""BM25's saturation and length normalisation, as Lucene's defaults."""
WHITENING_TOKENS = 200_000
"""Tokens from which mean and covariance of the states are estimated."""
RIDGE = 1e-3
"""Share of the mean variance that is added to the covariance before it is inverted."""
INITIAL_SCALE = 20.0
"""Sharpness c of the attention before training."""


@dataclass(frozen=True)
class KeyStatistics:
    """What is measured on a corpus before anything is learned.

    Attributes:
        mean_D: mean of the token states.
        whitening_DD: inverse square root of their covariance.
        weights_V: inverse document frequency of each vocabulary entry, as BM25 defines it.
        keys_ND: a key of length 1 for each passage.
    """

    mean_D: Tensor
    whitening_DD: Tensor
    weights_V: Tensor
    keys_ND: Tensor


def measure_keys(encoder: QuestionEncoder, texts_N: Sequence[Sequence[str]]) -> KeyStatistics:
    """Whitening, token weights and passage keys of a corpus.

    Args:
        encoder: represents the texts.
        texts_N: for each passage its texts: itself, rewrites, training questions; at least one.
    """
    texts = [text for own in texts_N for text in own]
    owners = [number for number, own in enumerate(texts_N) for _ in own]
    counts_N: list[Counter[int]] = [Counter() for _ in texts_N]
    sample: list[Tensor] = []
    place = sampled = 0
    for batch in batches_of(texts):
        states = encoder.encode(batch)
        for ids_T, mask_T in zip(states.ids_BT.tolist(), states.mask_BT.tolist(), strict=True):
            counts_N[owners[place]].update(id for id, real in zip(ids_T, mask_T, strict=True) if real)
            place += 1
        if sampled < WHITENING_TOKENS:
            sample.append(states.states_BTD[states.mask_BT])
            sampled += len(sample[-1])
    mean_D, whitening_DD = _whitening(torch.cat(sample))
    frequency = Counter(id for counts in counts_N for id in counts)
    passages = len(texts_N)
    weights_V = torch.full((encoder.vocabulary,), _idf(0, passages))
    for id, documents in frequency.items():
        weights_V[id] = _idf(documents, passages)
    lengths_N = torch.tensor([float(counts.total()) for counts in counts_N])
    keys_ND = torch.zeros(passages, encoder.size, device=mean_D.device)
    place, mean_length = 0, float(lengths_N.mean())
    for batch in batches_of(texts):
        states = encoder.encode(batch)
        unit_BTD = _unit(states, mean_D, whitening_DD)
        share_BT = torch.zeros(states.ids_BT.shape, device=mean_D.device)
        for row, ids_T in enumerate(states.ids_BT.tolist()):
            owner = owners[place + row]
            dampening = K1 * (1 - B + B * float(lengths_N[owner]) / mean_length)
            shares = [(K1 + 1) / (counts_N[owner][id] + dampening) for id in ids_T]
            share_BT[row] = torch.tensor(shares)
        share_BT = share_BT * weights_V.to(mean_D.device)[states.ids_BT] * states.mask_BT
        own_B = torch.tensor(owners[place : place + len(batch)], device=mean_D.device)
        keys_ND.index_add_(0, own_B, (share_BT[:, :, None] * unit_BTD).sum(1))
        place += len(batch)
    return KeyStatistics(mean_D, whitening_DD, weights_V.to(mean_D.device), F.normalize(keys_ND, dim=-1))


class QueryRouter(nn.Module):
    """Turns token states of questions into a distribution over passages, or into gates.

    Args:
        design: attention or mlp.
        passages: N; attention keeps a key for each.
        groups: G.
        experts: K.
        size: of a state, D.
        vocabulary: V.
        hidden: units of the mlp.
        routing: how its logits become gates.
    """

    def __init__(
        self,
        design: RouterDesign,
        *,
        passages: int,
        groups: int,
        experts: int,
        size: int,
        vocabulary: int,
        hidden: int,
        routing: RoutingConfig,
    ) -> None:
        super().__init__()
        self.mean_D: Tensor
        self.whitening_DD: Tensor
        self.keys: AllKeys | CodedKeys
        self.design, self.routing = design, routing
        self.groups, self.experts = groups, experts
        self.register_buffer("mean_D", torch.zeros(size))
        self.register_buffer("whitening_DD", torch.eye(size))
        self.log_weights_V = nn.Parameter(torch.zeros(vocabulary))
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))
        if design is RouterDesign.ATTENTION:
            self.keys = AllKeys(torch.zeros(passages, size))
            self.projection_DD = nn.Parameter(torch.zeros(size, size))
        else:
            self.mlp = nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, groups * experts))

    @torch.no_grad()
    def start_from(self, measured: KeyStatistics) -> None:
        """Take over what was measured on the corpus, as the state before training."""
        self.mean_D.copy_(measured.mean_D)
        self.whitening_DD.copy_(measured.whitening_DD)
        if self.design is RouterDesign.ATTENTION:
            self.keys = AllKeys(measured.keys_ND.detach().to(self.mean_D.device))
        self.log_weights_V.copy_(measured.weights_V.log())

    def represent(self, states: TokenStates, dropout: float = 0.0) -> Tensor:
        """One vector of length 1 for each question, [B, D].

        Args:
            states: the questions' token states.
            dropout: share of the tokens left out, drawn anew each time.
        """
        weights_BT = self.log_weights_V[states.ids_BT].exp() * states.mask_BT
        if dropout:
            weights_BT = weights_BT * (torch.rand_like(weights_BT) >= dropout)
        unit_BTD = _unit(states, self.mean_D, self.whitening_DD)
        return F.normalize((weights_BT[:, :, None] * unit_BTD).sum(1), dim=-1)

    def logits(self, questions_BD: Tensor, gates_NGK: RowGates | Tensor) -> Tensor:
        """Attention logits over the passages, [B, N]; for the mlp, scaled cosines between its gates and the rows'.

        Args:
            questions_BD: as `represent` gives them.
            gates_NGK: the gates of every passage.
        """
        if self.design is RouterDesign.ATTENTION:
            return self.keys.logits(self._queries(questions_BD))
        own_BX = F.normalize(self.mlp_gates(questions_BD).flatten(1), dim=-1)
        blocks = (F.normalize(gates_NGK[block].flatten(1), dim=-1) for block in blocks_of(len(gates_NGK)))
        return self.log_scale.exp() * torch.cat([own_BX @ block_NX.T for block_NX in blocks], dim=1)

    def meet(self, questions_BD: Tensor, gates_NGK: RowGates | Tensor) -> list[Met]:
        """The passages that each question meets, with their logits: all of them, or the likeliest of many.

        Args:
            questions_BD: as `represent` gives them.
            gates_NGK: the gates of every passage.
        """
        if self.design is RouterDesign.ATTENTION:
            return self.keys.meet(self._queries(questions_BD))
        positions_N = torch.arange(len(gates_NGK), device=questions_BD.device)
        return [Met(positions_N, logits_N) for logits_N in self.logits(questions_BD, gates_NGK)]

    def mlp_gates(self, questions_BD: Tensor) -> Tensor:
        """The gates [B, G, K] of the mlp design."""
        logits_BGK = self.mlp(questions_BD).view(-1, self.groups, self.experts)
        return gates_from_logits(logits_BGK, self.routing.normalisation, self.routing.top_k)

    def gates(self, questions_BD: Tensor, gates_NGK: RowGates | Tensor, passages: int) -> Tensor:
        """The gates [B, G, K] of questions, with gradient: of the mlp, or of the most attended passages, weighted.

        Args:
            questions_BD: as `represent` gives them.
            gates_NGK: the gates of every passage.
            passages: how many are attended to.
        """
        if self.design is RouterDesign.MLP:
            return self.mlp_gates(questions_BD)
        best = self.logits(questions_BD, gates_NGK).topk(min(passages, len(gates_NGK)), dim=-1)
        return torch.einsum("bp,bpgk->bgk", best.values.softmax(-1), gates_NGK[best.indices])

    def distillation_loss(
        self, questions_BD: Tensor, tasks_B: Tensor, gates_NGK: RowGates | Tensor, identity: float
    ) -> Tensor:
        """How far questions are from their own passages' rows.

        Attention: cross-entropy of the own passage, and `identity` times the squared norm of P. Mlp: cross-entropy
        between the own row's gates and the mlp's, averaged over groups; both sum to one.

        Args:
            questions_BD: as `represent` gives them.
            tasks_B: the passage of each question.
            gates_NGK: the gates of every passage.
            identity: weight of the penalty.
        """
        if self.design is RouterDesign.ATTENTION:
            loss = F.cross_entropy(self.logits(questions_BD, gates_NGK), tasks_B)
            return loss + identity * self.projection_DD.square().sum()
        logits_BGK = self.mlp(questions_BD).view(-1, self.groups, self.experts)
        found_BGK = gates_from_logits(logits_BGK, self.routing.normalisation)
        return -(gates_NGK[tasks_B] * (found_BGK + 1e-6).log()).sum(-1).mean()

    def _queries(self, questions_BD: Tensor) -> Tensor:
        """What is multiplied with the keys."""
        return self.log_scale.exp() * (questions_BD + questions_BD @ self.projection_DD)


def _unit(states: TokenStates, mean_D: Tensor, whitening_DD: Tensor) -> Tensor:
    """Whitened token states of length 1, [B, T, D]."""
    return F.normalize((states.states_BTD - mean_D) @ whitening_DD, dim=-1)


def _whitening(sample_SD: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse square root of the covariance, in float64, with a ridge for directions without variance."""
    sample_SD = sample_SD.double()
    mean_D = sample_SD.mean(0)
    covariance_DD = (sample_SD - mean_D).T @ (sample_SD - mean_D) / len(sample_SD)
    ridge = RIDGE * covariance_DD.diagonal().mean().clamp_min(1e-12)
    values_D, vectors_DD = torch.linalg.eigh(covariance_DD + ridge * torch.eye(len(mean_D)).to(covariance_DD))
    whitening_DD = vectors_DD @ torch.diag(values_D.clamp_min(1e-12).rsqrt()) @ vectors_DD.T
    return mean_D.float(), whitening_DD.float()


def _idf(documents: int, passages: int) -> float:
    """Inverse document frequency as Lucene computes it."""
    return math.log(1 + (passages - documents + 0.5) / (documents + 0.5))
