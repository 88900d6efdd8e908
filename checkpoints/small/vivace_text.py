"""Prompts -> text states for the network.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import threading

import torch
from diffusers.utils import logging

MAX_TEXT_TOKENS = 64
TOKENIZING = threading.Lock()  # a fast tokenizer keeps how it cuts and pads: calls in threads must take turns
logger = logging.get_logger(__name__)


def token_limit(tokenizer) -> int:
    """How many tokens of a text the network gets, in training as in use: what the tokenizer states, at most 64."""
    return min(tokenizer.model_max_length, MAX_TEXT_TOKENS)


def check_text(name: str, text: str) -> None:
    """Raise a ValueError for half of a character, as of an emoji that was cut: a text of it cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is {text!a}, whose {text[error.start]!a} is half of a character; give whole ones"
        ) from error


def encode_texts(pipe, prompts: list[str], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Text states (batch, tokens, dim) and which of them are text (batch, tokens) bool.

    Raises:
        ValueError: if the pipeline was loaded without its text encoder.
    """
    if pipe.text_encoder is None or pipe.tokenizer is None:
        raise ValueError("prompt needs a text_encoder and a tokenizer; this pipeline has none, give prompt_embeds")
    limit = token_limit(pipe.tokenizer)
    with TOKENIZING:
        inputs = pipe.tokenizer(prompts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        lengths = [len(ids) for ids in pipe.tokenizer(prompts, verbose=False).input_ids]
    if max(lengths) > limit:
        logger.warning(f"prompt is cut to its first {limit} tokens")
    ids, mask = inputs.input_ids.to(device), inputs.attention_mask.to(device)
    if device.type != "cpu":
        return pipe.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask.bool()
    states = []
    for own, read in zip(ids, mask.bool(), strict=True):  # unpadded: rounding depends on the shape of what is encoded
        few = pipe.text_encoder(input_ids=own[read][None]).last_hidden_state[0]
        states.append(few.new_zeros(len(read), few.shape[1]).masked_scatter(read[:, None], few))
    return torch.stack(states), mask.bool()


def text_states(pipe, requests: list, per_prompt: int, embeds: tuple, negative_embeds: tuple, device) -> tuple:
    """States (texts + unwanted, tokens, dim) and masks (texts + unwanted, tokens): the texts of all requests, then what
    is to be kept out of them. Every text is encoded once.

    Args:
        pipe: the pipeline.
        requests: see `vivace_request.Request`.
        per_prompt: requests for each prompt.
        embeds: states and mask in place of the texts, (prompts, tokens, dim) and (prompts, tokens), or None, None.
        negative_embeds: likewise.
        device: where to.
    """
    wanted = [text for item in requests for text in item.texts]
    unwanted = [text for item in requests for text in item.unwanted]
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
            no_text = torch.zeros(len(names), 1, width, dtype=torch.float32, device=device)
            return no_text, torch.zeros(len(names), 1, dtype=torch.bool, device=device)
        rows = [texts.index(name) if name in texts else None for name in names]
        present = torch.tensor([row is not None for row in rows], dtype=torch.bool, device=device)
        rows = [row or 0 for row in rows]
        return encoded[0][rows], encoded[1][rows] & present[:, None]

    branches = branch(wanted, embeds, "prompt_embeds"), branch(unwanted, negative_embeds, "negative_prompt_embeds")
    tokens = max(mask.shape[1] for _, mask in branches)
    pad = torch.nn.functional.pad
    states = [pad(states.to(pipe.unet.dtype), (0, 0, 0, tokens - states.shape[1])) for states, _ in branches]
    return torch.cat(states), torch.cat([pad(mask, (0, tokens - mask.shape[1])) for _, mask in branches])
