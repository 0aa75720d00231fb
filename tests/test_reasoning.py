"""Contextual reasoning against Eq. 1-4 written out."""

import torch
from torch.nn import functional as F

from hojoint.config import ModelConfig
from hojoint.model.reasoning import ContextReasoning


def _reasoning(heads: int = 1) -> tuple[ContextReasoning, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    module = ContextReasoning(ModelConfig(channels=16, attention_hidden=24, attention_heads=heads))
    return module, torch.randn(2, 16, 8, 8), torch.randn(2, 16, 8, 8)


def test_one_head_is_equations_1_to_4() -> None:
    module, features, context = _reasoning()
    cells, context_cells = features.flatten(2).transpose(1, 2), context.flatten(2).transpose(1, 2)

    def linear(conv: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, conv.weight[:, :, 0, 0], conv.bias)

    query, key, value = (
        linear(module.query, cells),
        linear(module.key, context_cells),
        linear(module.value, context_cells),
    )
    weights = torch.exp(query @ key.transpose(1, 2) / 4)  # sqrt(16)
    asked = cells + weights / weights.sum(dim=2, keepdim=True) @ value
    normed = (asked - asked.mean(2, keepdim=True)) / (asked.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    enhanced = asked + module.mlp[2](F.gelu(module.mlp[0](normed)))
    torch.testing.assert_close(module(features, context), enhanced.transpose(1, 2).view_as(features))


def test_four_heads_are_torchs_multi_head_attention() -> None:
    module, features, context = _reasoning(heads=4)
    weights = [c.weight[:, :, 0, 0] for c in (module.query, module.key, module.value)]
    biases = torch.cat([c.bias for c in (module.query, module.key, module.value)])
    cells, context_cells = (x.flatten(2).permute(2, 0, 1) for x in (features, context))
    answer, mean_weights = F.multi_head_attention_forward(
        cells, context_cells, context_cells, 16, 4, None, biases, None, None, False, 0.0,
        torch.eye(16), torch.zeros(16),
        use_separate_proj_weight=True, q_proj_weight=weights[0], k_proj_weight=weights[1], v_proj_weight=weights[2],
    )  # fmt: skip
    asked = (cells + answer).transpose(0, 1)
    enhanced = asked + module.mlp(module.norm(asked))
    torch.testing.assert_close(
        module(features, context), enhanced.transpose(1, 2).view_as(features), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(module.attention(features, context), mean_weights, atol=1e-6, rtol=1e-4)


def test_attention_rows_sum_to_one() -> None:
    module, features, context = _reasoning(heads=2)
    attention = module.attention(features, context)
    assert attention.shape == (2, 64, 64)
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, 64))


def test_without_an_intersection_the_values_bias_is_added() -> None:
    module, features, _ = _reasoning()
    module.mlp[2].weight.data.zero_()
    module.mlp[2].bias.data.zero_()
    enhanced = module(features, torch.zeros_like(features))
    torch.testing.assert_close(enhanced, features + module.value.bias[:, None, None])
