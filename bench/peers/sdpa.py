#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention on contiguous K and V: bfloat16, 8 KV heads x 128.

sdpa.py BATCH:LENGTH:QUERIES:GROUP ...

Prints one flat JSON object a line: first {"about": VERSION}, then for each case {"case": NAME,
"median_us": TIME}, or {"case": NAME, "error": WHY}. Times are of replayed CUDA graphs over cold
memory, as quire_gpu_bench takes its own. Without PyTorch or a GPU it says so in "about".
"""

import json
import sys

KV_HEADS = 8
HEAD_DIM = 128
COLD_BYTES = 256 << 20
SHORT_BYTES = COLD_BYTES


def say(**fields):
    print(json.dumps(fields), flush=True)


def one_line(error):
    return " ".join(str(error).replace('"', "'").split())[:200]


def make_inputs(torch, batch, length, queries, group):
    kv_bytes = batch * length * 2 * KV_HEADS * HEAD_DIM * 2
    copies = min(max(COLD_BYTES // kv_bytes + 1, 2), 128)
    options = {"device": "cuda", "dtype": torch.bfloat16}
    inputs = []
    for _ in range(copies):
        query = torch.randn(batch, KV_HEADS * group, queries, HEAD_DIM, **options)
        key = torch.randn(batch, KV_HEADS, length, HEAD_DIM, **options)
        inputs.append((query, key, torch.randn_like(key)))
    return inputs, kv_bytes


def attend(torch, query, key, value):
    queries, length = query.shape[2], key.shape[2]
    arguments = {"enable_gqa": query.shape[1] != key.shape[1]}
    if queries == length and queries > 1:
        arguments["is_causal"] = True
    elif queries > 1:
        # The queries stand at the end of the keys.
        from torch.nn.attention.bias import causal_lower_right

        arguments["attn_mask"] = causal_lower_right(queries, length)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, **arguments)


def median_us(torch, batch, length, queries, group):
    inputs, kv_bytes = make_inputs(torch, batch, length, queries, group)
    chained = kv_bytes < SHORT_BYTES and batch * queries < 1024
    groups = [inputs] if chained else [[one] for one in inputs]
    stream = torch.cuda.Stream()
    graphs = []
    with torch.cuda.stream(stream):
        for query, key, value in inputs[:2]:  # choose and load kernels before the capture
            attend(torch, query, key, value)
        stream.synchronize()
        for calls in groups:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                for query, key, value in calls:
                    attend(torch, query, key, value)
            graphs.append(graph)
        times = []
        for sample in range(3 + 21):
            begin = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(90000)  # so that nothing waits for the host
            begin.record(stream)
            graphs[sample % len(graphs)].replay()
            end.record(stream)
            stream.synchronize()
            times.append(1e3 * begin.elapsed_time(end) / len(groups[0]))
    times = sorted(times[3:])
    return times[len(times) // 2]


def main():
    try:
        import torch
    except ImportError:
        say(about="no PyTorch here")
        return
    if not torch.cuda.is_available():
        say(about="PyTorch " + torch.__version__ + " sees no GPU")
        return
    say(about="PyTorch " + torch.__version__)
    for name in sys.argv[1:]:
        try:
            with torch.no_grad():
                time = median_us(torch, *(int(number) for number in name.split(":")))
            say(case=name, median_us=round(time, 2))
        except Exception as error:  # one shape that it cannot do must not cost the others
            say(case=name, error=one_line(error))
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
