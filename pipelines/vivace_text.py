"""Prompts -> text states for the network.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import torch


def text_states(pipe, requests: list[dict], per_prompt: int, embeds: tuple, negative_embeds: tuple, device) -> tuple:
    """States (2 * batch, tokens, dim) and masks (2 * batch, tokens) of the wanted texts, then of the unwanted."""
    wanted, unwanted = [item["text"] for item in requests], [item["negative"] for item in requests]
    texts = list(dict.fromkeys(text for text in wanted + unwanted if text is not None and text.strip()))
    encoded = pipe.encode_prompt(texts, device) if texts else None

    def branch(names: list[str | None], given: tuple, argument: str) -> tuple[torch.Tensor, torch.Tensor]:
        states, mask = given
        if states is not None:
            mask = torch.ones(states.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
            if states.ndim != 3 or mask.shape != states.shape[:2] or len(states) * per_prompt != len(names):
                raise ValueError(
                    f"{argument} has shape {tuple(states.shape)} and a mask of {tuple(mask.shape)}; needed: "
                    f"(prompts, tokens, dim) and (prompts, tokens) for {len(names) // per_prompt} prompts"
                )
            return states.to(device).repeat_interleave(per_prompt, 0), mask.to(device).repeat_interleave(per_prompt, 0)
        if encoded is None:  # no text at all, and nothing to learn its width from but the network
            width = pipe.unet.config.cross_attention_dim
            no_text = torch.zeros(len(names), 1, width, device=device)
            return no_text, torch.zeros(len(names), 1, dtype=torch.bool, device=device)
        rows = [texts.index(name) if name in texts else None for name in names]
        present = torch.tensor([row is not None for row in rows], device=device)
        rows = [row or 0 for row in rows]
        return encoded[0][rows], encoded[1][rows] & present[:, None]

    branches = branch(wanted, embeds, "prompt_embeds"), branch(unwanted, negative_embeds, "negative_prompt_embeds")
    tokens = max(mask.shape[1] for _, mask in branches)
    pad = torch.nn.functional.pad
    states = [pad(states.to(pipe.unet.dtype), (0, 0, 0, tokens - states.shape[1])) for states, _ in branches]
    return torch.cat(states), torch.cat([pad(mask, (0, tokens - mask.shape[1])) for _, mask in branches])
