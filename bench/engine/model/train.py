#!/usr/bin/env python3
"""Trains the small language model next to this file and exports it.

Outputs (llama2.c "version 0" checkpoint and llama2.c tokenizer.bin):
    tiny_shakespeare.bin, tiny_shakespeare_tok.bin

Text:     "tiny Shakespeare", a 1.1 MB selection of the plays of William
          Shakespeare (40,000 lines; sha256 86c4e6aa9db7c042...). Public domain;
          not kept here. Found as data/tinyshakespeare/input.txt in the
          repository karpathy/char-rnn.
Licence:  the text is public domain; this script and the weights are
          Apache-2.0, as the project.
Command:  OPENBLAS_NUM_THREADS=1 python3 train.py --text input.txt --out . \\
              --minutes 30 --seed 1
Result:   held-out loss 2.6419 nats per token (1.4826 per character) on the
          last 10 % of the text at context 1024, after 4541 steps (9.3 million
          tokens) on one core of a busy machine. 2026-11-22.

Needs Debian's python3-torch and numpy. Install libopenblas0-pthread too: with
the reference BLAS the matrix products are about 20 times slower. The schedule
follows the clock, so a second run gives a model of the same kind, not the same
bytes; the tokenizer depends on the text alone.
"""
import argparse
import math
import os
import re
import struct
import time
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

# ---- Model shape -----------------------------------------------------------
# Chosen so that both files stay below 2 MB and so that the model exercises
# what a paged cache has to handle: grouped heads (6 query, 3 key/value) and a
# context long enough for dozens of pages.
DIM, HIDDEN, LAYERS, HEADS, KV_HEADS = 96, 224, 4, 6, 3
VOCAB, SEQ_LEN = 512, 1024
HEAD = DIM // HEADS
REP = HEADS // KV_HEADS
EPS, THETA = 1e-5, 10000.0
assert HEAD * HEADS == DIM and HEAD % 8 == 0 and HEADS % KV_HEADS == 0

# ---- Training recipe -------------------------------------------------------
TOKENS_PER_STEP = 2048
PEAK_LR, FINAL_LR, WARMUP, WEIGHT_DECAY, CLIP = 4e-3, 4e-5, 0.02, 0.1, 1.0
DROPOUT = 0.1
# (share of the run after which the stage ends, context length). Short contexts
# are cheaper per token and teach most of the language; the last stages teach
# the positions up to SEQ_LEN, which RoPE does not reach by itself.
STAGES = [(0.60, 256), (0.85, 512), (1.01, 1024)]
ATTN_BLOCK = 128
EVAL_SECONDS = 180

BOS, BYTE0, FIRST_PIECE = 1, 3, 259  # 0 is <unk>, 2 is end of sequence
PROMPT = "ROMEO:\n"


# ---- Tokenizer -------------------------------------------------------------
# Merges stay inside a word (with the space before it), inside a run of
# punctuation, or inside one newline. Every boundary is a change of character
# class, so the encoder, which sees no word list, can never merge across one.
WORD = re.compile(r" ?[A-Za-z']+| ?[^A-Za-z'\s]+|\s")


class Tokenizer:
    """llama2.c's tokenizer: pieces are looked up by their text."""

    def __init__(self, pieces, scores):
        self.pieces, self.scores = pieces, scores
        self.ids = {p: i for i, p in enumerate(pieces)}

    @staticmethod
    def load(path):
        data = open(path, "rb").read()
        pos, pieces, scores = 4, [], []
        while pos < len(data):
            score, n = struct.unpack_from("<fi", data, pos)
            pieces.append(data[pos + 8:pos + 8 + n])
            scores.append(score)
            pos += 8 + n
        return Tokenizer(pieces, scores)

    def save(self, path):
        with open(path, "wb") as f:
            f.write(struct.pack("<i", max(len(p) for p in self.pieces)))
            for p, s in zip(self.pieces, self.scores):
                f.write(struct.pack("<fi", s, len(p)) + p)

    def merge(self, ids):
        """Merges the adjacent pair with the best score until none is left."""
        ids = list(ids)
        while True:
            best, at, new = -1e10, -1, -1
            for i in range(len(ids) - 1):
                j = self.ids.get(self.pieces[ids[i]] + self.pieces[ids[i + 1]])
                if j is not None and self.scores[j] > best:
                    best, at, new = self.scores[j], i, j
            if at < 0:
                return ids
            ids[at:at + 2] = [new]

    def encode(self, text, prefix=True):
        ids = []
        for ch in (" " + text if prefix and text else text):
            b = ch.encode()
            ids += [self.ids[b]] if b in self.ids else [x + BYTE0 for x in b]
        return self.merge(ids)

    def decode(self, ids):
        out, prev = b"", BOS
        for i in ids:
            p = self.pieces[i]
            if prev == BOS and p[:1] == b" ":
                p = p[1:]
            out += bytes([i - BYTE0]) if BYTE0 <= i < FIRST_PIECE else p
            prev = i
        return out.decode("utf-8", "replace")


def train_tokenizer(text):
    """Byte-pair encoding; ties go to the smaller pair, so the result is fixed."""
    special = [b"<unk>", b"\n<s>\n", b"\n</s>\n"]
    special += [b"<0x%02X>" % b for b in range(256)]
    chars = sorted({c.encode() for c in text})
    n_merges = VOCAB - len(special) - len(chars)
    # Merges come first and single characters last, as in llama2.c's own files.
    # While training, characters hold their final ids and the merges fill up.
    pieces = special + [None] * n_merges + chars
    scores = [0.0] * len(special)
    scores += [-float(i) for i in range(n_merges + len(chars))]
    tok = Tokenizer(pieces, scores)
    words = Counter(WORD.findall(text))
    count = list(words.values())
    split = [[tok.ids[c.encode()] for c in w] for w in words]
    for rank in range(n_merges):
        pairs = Counter()
        for ids, n in zip(split, count):
            for ab in zip(ids, ids[1:]):
                pairs[ab] += n
        a, b = min(pairs, key=lambda p: (-pairs[p], p))
        new = FIRST_PIECE + rank
        pieces[new] = pieces[a] + pieces[b]
        tok.ids[pieces[new]] = new
        # Re-encoding with the real encoder, and not just replacing the pair,
        # keeps the counts equal to what the encoder will produce.
        for k, ids in enumerate(split):
            if (a, b) in zip(ids, ids[1:]):
                split[k] = tok.merge(ids)
    return tok


# ---- Data ------------------------------------------------------------------
class Corpus:
    """Lines as tokens, so that a crop can start at a line the way a prompt does:
    BOS, then the line with the encoder's extra leading space."""

    def __init__(self, tok, text):
        cache = {}

        def enc(s):
            out = []
            for w in WORD.findall(s):
                if w not in cache:
                    cache[w] = tok.encode(w, prefix=False)
                out += cache[w]
            return out

        lines = text.split("\n")
        self.first, self.start, stream = [], [], []
        for i, line in enumerate(lines):
            self.first.append(enc(" " + line + "\n"))
            if i % 500 == 0:  # the word cache must not change the encoding
                assert self.first[-1] == tok.encode(line + "\n")
            self.start.append(len(stream))
            stream += enc(line + "\n")
        self.start.append(len(stream))
        self.stream = np.array(stream, np.int64)
        self.lines = [i for i, s in enumerate(lines) if s]
        self.heads = [i for i in self.lines if i == 0 or not lines[i - 1]]

    def crop(self, line, n):
        ids = [BOS] + self.first[line]
        rest = self.start[line + 1]
        ids = np.concatenate([ids, self.stream[rest:rest + max(0, n - len(ids))]])
        return ids[:n].astype(np.int64)

    def batch(self, rng, size, ctx):
        rows = []
        while len(rows) < size:
            # Half of the crops start at a speaker's name, as most prompts do.
            pool = self.heads if rng.random() < 0.5 else self.lines
            row = self.crop(pool[rng.integers(len(pool))], ctx + 1)
            if len(row) == ctx + 1:
                rows.append(row)
        return torch.from_numpy(np.stack(rows))

    def windows(self, ctx):
        """Consecutive windows that cover the text, each from a line start."""
        end = 0
        for i in self.lines:
            if self.start[i] >= end:
                row = self.crop(i, ctx + 1)
                if len(row) < ctx + 1:
                    return
                yield torch.from_numpy(row)[None]
                end = self.start[i] + ctx


# ---- Model -----------------------------------------------------------------
def rope_table(n):
    freq = 1.0 / (THETA ** (np.arange(0, HEAD, 2, dtype=np.float64) / HEAD))
    angle = np.outer(np.arange(n), freq)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


class Norm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(DIM))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * self.weight


def rotate(x, cos, sin):
    """Interleaved pairs (0,1), (2,3), ... as llama2.c; x is [B, T, heads, HEAD]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        lin = lambda i, o: torch.nn.Linear(i, o, bias=False)
        self.att_norm, self.ffn_norm = Norm(), Norm()
        self.wq, self.wo = lin(DIM, DIM), lin(DIM, DIM)
        self.wk, self.wv = lin(DIM, KV_HEADS * HEAD), lin(DIM, KV_HEADS * HEAD)
        self.w1, self.w3, self.w2 = lin(DIM, HIDDEN), lin(DIM, HIDDEN), lin(HIDDEN, DIM)

    def attend(self, x, cos, sin, mask):
        B, T, _ = x.shape
        q = rotate(self.wq(x).view(B, T, HEADS, HEAD), cos, sin)
        k = rotate(self.wk(x).view(B, T, KV_HEADS, HEAD), cos, sin)
        v = self.wv(x).view(B, T, KV_HEADS, HEAD)
        # Query head h reads key/value head h // REP, so heads of a group are
        # neighbours and fold into the rows of one matrix product.
        q = q.view(B, T, KV_HEADS, REP, HEAD).permute(0, 2, 3, 1, 4)
        k = k.permute(0, 2, 3, 1).reshape(B * KV_HEADS, HEAD, T)
        v = v.permute(0, 2, 1, 3).reshape(B * KV_HEADS, T, HEAD)
        out = []
        # Blocks of queries skip the keys after them: almost half of the work.
        for s in range(0, T, ATTN_BLOCK):
            e = min(T, s + ATTN_BLOCK)
            qb = q[:, :, :, s:e].reshape(B * KV_HEADS, REP * (e - s), HEAD)
            w = torch.baddbmm(mask[s:e, :e].repeat(REP, 1), qb, k[:, :, :e],
                              alpha=HEAD ** -0.5).softmax(-1)
            o = torch.bmm(w, v[:, :e]).view(B, KV_HEADS, REP, e - s, HEAD)
            out.append(o.permute(0, 3, 1, 2, 4).reshape(B, e - s, DIM))
        return self.wo(torch.cat(out, 1))

    def forward(self, x, cos, sin, mask):
        drop = lambda t: F.dropout(t, DROPOUT, self.training) if DROPOUT else t
        x = x + drop(self.attend(self.att_norm(x), cos, sin, mask))
        h = self.ffn_norm(x)
        return x + drop(self.w2(F.silu(self.w1(h)) * self.w3(h)))


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = torch.nn.Embedding(VOCAB, DIM)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()
        for name, p in self.named_parameters():
            if p.dim() == 2:
                # Outputs into the residual stream start smaller: there are 2
                # per layer and their sum should not grow with depth.
                out = name.endswith(("wo.weight", "w2.weight"))
                torch.nn.init.normal_(p, 0, 0.04 / (math.sqrt(2 * LAYERS) if out else 1))
        cos, sin = rope_table(SEQ_LEN)
        self.cos = torch.from_numpy(cos)[:, None]
        self.sin = torch.from_numpy(sin)[:, None]
        self.mask = torch.full((SEQ_LEN, SEQ_LEN), -math.inf).triu(1)

    def forward(self, ids):
        T = ids.shape[1]
        x = self.emb(ids)
        for layer in self.layers:
            x = layer(x, self.cos[:T], self.sin[:T], self.mask)
        return F.linear(self.norm(x), self.emb.weight)


@torch.no_grad()
def evaluate(model, corpus, ctx):
    """Mean loss per token, and the losses by position in the context.

    main() always asks for the full context, because that is what users get.
    The loss is therefore poor until the last stage has trained the positions
    that the shorter stages never saw.
    """
    model.eval()
    rows = [F.cross_entropy(model(w[:, :-1])[0], w[0, 1:], reduction="none")
            for w in corpus.windows(ctx)]
    model.train()
    by_pos = torch.stack(rows).mean(0)
    return by_pos.mean().item(), by_pos


# ---- Export and check ------------------------------------------------------
def tensors():
    """Order and shapes of a version 0 checkpoint."""
    kv, L, half = KV_HEADS * HEAD, LAYERS, HEAD // 2
    return [("tok_emb", (VOCAB, DIM)), ("rms_att", (L, DIM)), ("wq", (L, DIM, DIM)),
            ("wk", (L, kv, DIM)), ("wv", (L, kv, DIM)), ("wo", (L, DIM, DIM)),
            ("rms_ffn", (L, DIM)), ("w1", (L, HIDDEN, DIM)), ("w2", (L, DIM, HIDDEN)),
            ("w3", (L, HIDDEN, DIM)), ("rms_final", (DIM,)),
            ("freq_cis_real", (SEQ_LEN, half)), ("freq_cis_imag", (SEQ_LEN, half))]


def export(model, path):
    get = lambda f: np.stack([f(l).weight.detach().numpy() for l in model.layers])
    cos, sin = rope_table(SEQ_LEN)
    data = {"tok_emb": model.emb.weight.detach().numpy(),
            "rms_att": get(lambda l: l.att_norm), "rms_ffn": get(lambda l: l.ffn_norm),
            "rms_final": model.norm.weight.detach().numpy(),
            "freq_cis_real": cos, "freq_cis_imag": sin}
    for name in ("wq", "wk", "wv", "wo", "w1", "w2", "w3"):
        data[name] = get(lambda l: getattr(l, name))
    # Written beside and renamed: a reader never sees half a file.
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<7i", DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, SEQ_LEN))
        for name, shape in tensors():
            assert data[name].shape == shape, name
            f.write(data[name].astype("<f4").tobytes())
    os.replace(path + ".part", path)


class NumpyModel:
    """Second implementation, one token at a time with a key/value cache, that
    shares nothing with the trained model but the exported file."""

    def __init__(self, path):
        data = open(path, "rb").read()
        head = struct.unpack_from("<7i", data)
        assert head == (DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, SEQ_LEN)
        pos, self.w = 28, {}
        for name, shape in tensors():
            n = int(np.prod(shape))
            self.w[name] = np.frombuffer(data, "<f4", n, pos).reshape(shape)
            pos += 4 * n
        assert pos == len(data)
        self.k = [[] for _ in range(LAYERS)]
        self.v = [[] for _ in range(LAYERS)]

    @staticmethod
    def norm(x, w):
        return x / np.sqrt((x * x).mean() + np.float32(EPS)) * w

    def step(self, token):
        w, pos = self.w, len(self.k[0])
        rot = w["freq_cis_real"][pos] + 1j * w["freq_cis_imag"][pos]

        def rope(x):  # each pair of neighbours is one complex number
            z = x.reshape(-1, HEAD // 2, 2)
            z = (z[..., 0] + 1j * z[..., 1]) * rot
            return np.stack([z.real, z.imag], -1).reshape(-1, HEAD).astype(np.float32)

        x = w["tok_emb"][token].copy()
        for l in range(LAYERS):
            h = self.norm(x, w["rms_att"][l])
            q = rope(w["wq"][l] @ h)
            self.k[l].append(rope(w["wk"][l] @ h))
            self.v[l].append((w["wv"][l] @ h).reshape(KV_HEADS, HEAD))
            k, v = np.stack(self.k[l]), np.stack(self.v[l])
            out = []
            for i in range(HEADS):
                s = k[:, i // REP] @ q[i] / np.float32(math.sqrt(HEAD))
                p = np.exp(s - s.max())
                out.append(p / p.sum() @ v[:, i // REP])
            x = x + w["wo"][l] @ np.concatenate(out)
            h = self.norm(x, w["rms_ffn"][l])
            a = w["w1"][l] @ h
            x = x + w["w2"][l] @ (a / (1 + np.exp(-a)) * (w["w3"][l] @ h))
        return w["tok_emb"] @ self.norm(x, w["rms_final"])


@torch.no_grad()
def verify(model, model_path, tok_path, n=64):
    """Greedy-decodes the exported files and compares with the live model."""
    size = os.path.getsize(model_path) + os.path.getsize(tok_path)
    assert size < 2_000_000, size
    tok, other = Tokenizer.load(tok_path), NumpyModel(model_path)
    assert len(tok.pieces) == VOCAB and tok.decode(tok.encode(PROMPT)) == PROMPT
    model.eval()
    ids, compared, worst = [BOS] + tok.encode(PROMPT), 0, 0.0
    for t in ids[:-1]:
        other.step(t)
    for _ in range(n):
        want = model(torch.tensor([ids]))[0, -1]
        got = other.step(ids[-1])
        worst = max(worst, float(np.abs(want.numpy() - got).max()))
        top = want.topk(2).values
        if top[0] - top[1] > 1e-3:  # closer than this, rounding may decide
            assert int(want.argmax()) == int(got.argmax()), "export differs"
            compared += 1
        ids.append(int(want.argmax()))
    model.train()
    assert worst < 1e-3, worst
    return tok.decode(ids[1:]), f"{compared}/{n} greedy tokens equal, max logit difference {worst:.1e}, {size} bytes"


# ---- Training --------------------------------------------------------------
def main():
    ap = argparse.ArgumentParser(description="Trains and exports the small model.")
    ap.add_argument("--text", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, default=30, help="length of the run")
    ap.add_argument("--steps", type=int, default=0,
                    help="fixed number of steps instead of --minutes: repeatable on one machine")
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    os.makedirs(args.out, exist_ok=True)
    model_path = os.path.join(args.out, "tiny_shakespeare.bin")
    tok_path = os.path.join(args.out, "tiny_shakespeare_tok.bin")

    text = open(args.text, encoding="utf-8").read()
    cut = text.rindex("\n\n", 0, int(len(text) * 0.9)) + 2  # last 10 % held out
    tok = train_tokenizer(text[:cut])
    tok.save(tok_path)
    train, held = Corpus(tok, text[:cut]), Corpus(tok, text[cut:])
    chars_per_token = (len(text) - cut) / len(held.stream)
    model = Model()
    print(f"{len(train.stream)} training tokens, {len(held.stream)} held out, "
          f"{chars_per_token:.3f} characters per token, "
          f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)

    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": WEIGHT_DECAY},
                             {"params": vectors, "weight_decay": 0.0}],
                            lr=PEAK_LR, betas=(0.9, 0.98), foreach=True)
    best, step, seen, smooth = math.inf, 0, 0, None
    begin = last_eval = time.time()
    paused = 0.0  # evaluation does not count as training time
    while True:
        spent = time.time() - begin - paused
        done = step / args.steps if args.steps else spent / (60 * args.minutes)
        if done >= 1 or time.time() - last_eval > EVAL_SECONDS:
            t0 = time.time()
            loss, by_pos = evaluate(model, held, SEQ_LEN)
            kept = loss < best
            if kept:
                best = loss
                export(model, model_path)
                sample, check = verify(model, model_path, tok_path)
            print(f"{done:4.0%} step {step} train {smooth:.4f} held-out {loss:.4f} "
                  f"({loss / chars_per_token:.4f} nats per character) "
                  f"{seen / spent:.0f} tokens/s{' exported: ' + check if kept else ''}", flush=True)
            last_eval = time.time()
            paused += last_eval - t0
            if done >= 1:
                break
        ctx = next(c for end, c in STAGES if done < end)
        lr = FINAL_LR + (PEAK_LR - FINAL_LR) * 0.5 * (1 + math.cos(math.pi * done))
        for g in opt.param_groups:
            g["lr"] = lr * min(1.0, (done + 1e-3) / WARMUP)
        ids = train.batch(rng, TOKENS_PER_STEP // ctx, ctx)
        loss = F.cross_entropy(model(ids[:, :-1]).reshape(-1, VOCAB), ids[:, 1:].reshape(-1))
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        opt.step()
        step += 1
        seen += TOKENS_PER_STEP
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()

    print(f"best held-out {best:.4f}; last loss by position:",
          " ".join(f"{s}+:{by_pos[s:s + 128].mean():.3f}" for s in range(0, SEQ_LEN, 128)))
    print(sample)


if __name__ == "__main__":
    main()
