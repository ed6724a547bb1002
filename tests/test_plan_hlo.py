# SPDX-License-Identifier: Apache-2.0
"""Reading compiled programs: what they compute, move and send."""

import json

import jax
import jax.numpy as jnp
import pytest

from experiments.planning import collectives
from experiments.planning import costs
from experiments.planning import hlo


def compile_for(fn, *shapes):
  """A compiled program and its parsed text, for float32 arguments."""
  shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  done = jax.jit(fn).lower(*shapes).compile()
  return done, hlo.parse(done.as_text())


def conv(x, w):
  return jax.lax.conv_general_dilated(
    x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


# -- The text -----------------------------------------------------------------


def test_an_instruction_of_a_tpu():
  line = (
    "  ROOT %f.1 = (bf16[8,3]{0,1:T(8,128)(2,1)S(1)}, /*index=1*/f32[]) "
    "fusion(%a, %b.2), kind=kLoop, calls=%g.3, "
    'metadata={op_name="jit(f)/mul"}'
  )
  read = hlo.parse_instruction(line)
  assert (read.name, read.opcode, read.is_root) == ("f.1", "fusion", True)
  assert [(a.dtype, a.dims) for a in read.arrays] == [
    ("bf16", (8, 3)),
    ("f32", ()),
  ]
  assert read.operands == ("a", "b.2")
  assert read.called == ["g.3"]
  assert read.source == "jit(f)/mul"
  assert [a.is_in_hbm for a in read.arrays] == [False, True]


@pytest.mark.parametrize(
  "shape, elements, stored",
  [
    ("f32[]", 4, 4),
    ("bf16[8,128]{1,0:T(8,128)(2,1)}", 2 * 1024, 2 * 1024),
    # The minor axis is padded to 128, the next to 8.
    ("f32[5,3]{1,0:T(8,128)}", 4 * 15, 4 * 8 * 128),
    ("f32[5,3]{0,1:T(8,128)}", 4 * 15, 4 * 8 * 128),
    ("f32[9,130]{1,0:T(8,128)}", 4 * 9 * 130, 4 * 16 * 256),
    ("f32[9,130]{0,1:T(8,128)}", 4 * 9 * 130, 4 * 136 * 128),
    ("s32[100]{0:T(128)}", 400, 512),
    ("pred[7]{0}", 7, 7),
  ],
)
def test_bytes_of_an_array(shape, elements, stored):
  (array,) = hlo.arrays_of(shape)
  assert (array.size_bytes, array.stored_bytes) == (elements, stored)


def test_a_text_without_entry_says_so():
  with pytest.raises(ValueError, match="as_text"):
    hlo.parse("HloModule empty\n")


# -- FLOPs and bytes ----------------------------------------------------------


@pytest.mark.parametrize(
  "fn, shapes",
  [
    (jnp.matmul, [(32, 48), (48, 16)]),
    (lambda a, b: jnp.einsum("bij,bjk->bik", a, b), [(3, 4, 5), (3, 5, 6)]),
    (conv, [(3, 9, 8, 4), (3, 3, 4, 5)]),
    # Its gradients are convolutions with dilated inputs and large windows.
    (
      jax.grad(lambda x, w: jnp.sum(conv(x, w)), argnums=(0, 1)),
      [(3, 9, 8, 4), (3, 3, 4, 5)],
    ),
  ],
)
def test_flops_are_those_of_xla_where_there_is_no_loop(fn, shapes):
  done, program = compile_for(fn, *shapes)
  counted = costs.flops(program)
  assert counted > 0
  # XLA's own count has the elementwise operations, of which these have none.
  assert counted == done.cost_analysis()["flops"]


def test_bytes_are_operands_and_results():
  _, program = compile_for(jnp.matmul, (32, 48), (48, 16))
  assert costs.hbm_bytes(program) == 4 * (32 * 48 + 48 * 16 + 32 * 16)


def stack(weights, x):
  """Layers that a scan applies, 7 x [8, 64] @ [64, 64]."""
  return jnp.sum(
    jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, weights)[0]
  )


def test_a_loop_counts_as_often_as_it_runs():
  done, program = compile_for(jax.grad(stack), (7, 64, 64), (8, 64))
  loops = [
    place.instruction
    for place in hlo.walk(program)
    if place.instruction.opcode == "while"
  ]
  assert [hlo.trip_count(program, loop) for loop in loops] == [7, 7]
  assert costs.unknown_loops(program) == 0
  # Forward, and in the backward pass the gradients of h and w.
  assert costs.flops(program) == 7 * 3 * 2 * 8 * 64 * 64
  # What the module is for: XLA counts one trip.
  assert done.cost_analysis()["flops"] < costs.flops(program) / 5


def test_nested_loops_multiply():
  def twice(weights, x):
    return jax.lax.scan(
      lambda h, _: (h + stack(weights, h), None), x, length=5
    )[0]

  _, program = compile_for(twice, (7, 64, 64), (8, 64))
  assert costs.flops(program) == 5 * 7 * 2 * 8 * 64 * 64


def test_a_loop_reads_a_slice_of_a_stack():
  few = costs.hbm_bytes(compile_for(stack, (7, 64, 64), (8, 64))[1])
  many = costs.hbm_bytes(compile_for(stack, (70, 64, 64), (8, 64))[1])
  slice_bytes = 4 * 64 * 64
  # Each trip reads its own weights (here: cut out, written, read), not all.
  assert (many - few) / 63 < 4 * slice_bytes
  assert (many - few) / 63 > slice_bytes


def test_a_loop_that_ends_by_its_data_is_reported():
  def halve(x):
    return jax.lax.while_loop(
      lambda h: jnp.sum(h) > 1.0, lambda h: 0.5 * h @ h, x
    )

  _, program = compile_for(halve, (8, 8))
  assert costs.unknown_loops(program) == 1
  assert costs.flops(program) == 2 * 8 * 8 * 8


# A batched matrix product as XLA for TPU writes it: the batch of 4 is a spatial
# axis, and each output position meets one kernel position that is not padding.
BATCHED = """
ENTRY %main (a: bf16[4,8,32], b: bf16[4,32,16]) -> bf16[4,8,16] {
  %a = bf16[4,8,32]{2,1,0} parameter(0)
  %b = bf16[4,32,16]{2,1,0} parameter(1)
  ROOT %c = bf16[4,8,16]{2,1,0} convolution(%a, %b), \
window={size=4 stride=3 pad=0_0 lhs_dilate=4}, dim_labels=0bf_0io->0bf
}
"""


def test_flops_of_a_batched_product_on_a_tpu():
  assert costs.flops(hlo.parse(BATCHED)) == 2 * 4 * 8 * 32 * 16


# -- Groups -------------------------------------------------------------------


@pytest.mark.parametrize(
  "groups, first",
  [
    ("replica_groups={{1,3},{5,7}}, channel_id=1", (1, 3)),
    ("replica_groups={}", (0, 1, 2, 3, 4, 5, 6, 7)),
    ("replica_groups=[2,4]<=[8]", (0, 1, 2, 3)),
    ("replica_groups=[2,4]<=[4,2]T(1,0)", (0, 2, 4, 6)),
    ("replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={1}", (0, 1, 2, 3)),
    ("replica_groups=mesh['a'=2,'b'=4] {'a'}", (0, 4)),
    ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", tuple(range(8))),
    (
      "replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}",
      (0, 1, 2, 3),
    ),
    ("replica_groups=mesh['a'=8] {'a':(2)2}", (0, 2)),
    ("source_target_pairs={{0,5},{5,0}}", (0, 5)),
  ],
)
def test_forms_of_groups(groups, first):
  assert collectives.group_of(groups, 8) == first


def test_an_unknown_form_of_groups_says_so():
  with pytest.raises(ValueError, match="replica_groups=new"):
    collectives.group_of("replica_groups=new", 8)


def test_axes_of_a_group():
  mesh = {"data": 2, "fsdp": 4}
  assert collectives.axes_of((0, 1, 2, 3), mesh) == "fsdp"
  assert collectives.axes_of((1, 5), mesh) == "data"
  assert collectives.axes_of(range(8), mesh) == "data,fsdp"


# -- Collectives --------------------------------------------------------------

TPU_COLLECTIVES = """
%all-reduce-scatter.1 (input: bf16[64,32]) -> bf16[16,32] {
  %input = bf16[64,32]{1,0} parameter(0)
  %all-reduce = bf16[64,32]{1,0} all-reduce(%input), channel_id=1, \
replica_groups={{0,1,2,3}}, to_apply=%add
  %id = u32[] replica-id()
  ROOT %slice = bf16[16,32]{1,0} dynamic-slice(%all-reduce, %id, %id), \
dynamic_slice_sizes={16,32}
}

%start (p: bf16[16,32]) -> bf16[64,32] {
  %p = bf16[16,32]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[64,32]{1,0} all-gather(%p), channel_id=2, \
replica_groups={{0,1,2,3}}, dimensions={0}, frontend_attributes={chain_id="0"}
}

%done (q: bf16[16,32]) -> bf16[64,32] {
  %q = bf16[16,32]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[64,32]{1,0} all-gather(%q), channel_id=2, \
replica_groups={{0,1,2,3}}, dimensions={0}, frontend_attributes={chain_id="0"}
}

%body (s: (s32[], bf16[64,32])) -> (s32[], bf16[64,32]) {
  %s = (s32[], bf16[64,32]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %h = bf16[64,32]{1,0} get-tuple-element(%s), index=1
  %part = bf16[16,32]{1,0} fusion(%h), kind=kCustom, \
calls=%all-reduce-scatter.1
  %f.1 = bf16[64,32]{1,0} fusion(%part), kind=kCustom, calls=%start
  %f.2 = bf16[64,32]{1,0} fusion(%part), kind=kCustom, calls=%done
  ROOT %t = (s32[], bf16[64,32]{1,0}) tuple(%i, %f.2)
}

%condition (s: (s32[], bf16[64,32])) -> pred[] {
  %s = (s32[], bf16[64,32]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %n = s32[] constant(36)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (x: (s32[], bf16[64,32])) -> (s32[], bf16[64,32]) {
  %x = (s32[], bf16[64,32]{1,0}) parameter(0)
  %y = bf16[64,32]{1,0} get-tuple-element(%x), index=1
  %permute = (bf16[64,32]{1,0}, bf16[64,32]{1,0}, u32[], u32[]) \
collective-permute-start(%y), channel_id=3, source_target_pairs={{0,1},{1,0}}
  %permuted = bf16[64,32]{1,0} collective-permute-done(%permute)
  ROOT %loop = (s32[], bf16[64,32]{1,0}) while(%x), condition=%condition, \
body=%body
}
"""


def test_collectives_as_a_tpu_has_them():
  found = collectives.read(hlo.parse(TPU_COLLECTIVES), 4)
  size = 2 * 64 * 32
  assert sorted((c.kind, c.times, c.num_bytes) for c in found) == [
    ("all-gather", 36, 36 * size),  # async: two instructions, one chain
    ("collective-permute", 1, size),
    ("reduce-scatter", 36, 36 * size),  # an all-reduce of which a part is used
  ]
  sent = {c.kind: c.sent_bytes for c in found}
  assert sent["all-gather"] == sent["reduce-scatter"] == 36 * size * 3 / 4
  assert sent["collective-permute"] == size


def test_an_all_reduce_without_a_slice_is_no_reduce_scatter():
  start = TPU_COLLECTIVES.index("  ROOT %slice")
  end = TPU_COLLECTIVES.index("}\n", TPU_COLLECTIVES.index("slice_sizes={16"))
  alone = "  ROOT %id2 = u32[] add(%id, %id)\n"
  used = "  ROOT %minus = bf16[64,32]{1,0} negate(%all-reduce)\n"
  for line in (alone, used):
    text = TPU_COLLECTIVES[:start] + line + TPU_COLLECTIVES[end + 2 :]
    kinds = {c.kind for c in collectives.read(hlo.parse(text), 4)}
    assert kinds == {"all-gather", "all-reduce", "collective-permute"}


@pytest.mark.parametrize(
  "dims, is_parameter",
  [
    ((128, 512), True),
    ((1, 512, 128), True),
    ((36, 128, 512), True),
    ((36, 32, 512), True),  # one of 4 parts
    ((64, 512), True),  # one of 2
    ((4, 32, 512), True),  # the same, gathered along a new axis
    ((132, 512), True),  # padded
    ((), True),
    ((16, 128, 512), False),  # activations
    ((16, 256, 128), False),
    ((4, 16, 128, 512), False),
    ((16, 512), False),
  ],
)
def test_parameters_are_told_from_activations(dims, is_parameter):
  array = hlo.Array("bf16", dims, "")
  shapes = [(36, 128, 512), (36, 512), (3, 3, 64, 64)]
  assert collectives.is_of_parameters(array, shapes, [2, 4]) == is_parameter


def test_a_permute_may_shift_a_piece_of_a_part():
  shapes = [(36, 128, 512)]

  def is_parameter(dims, pieces):
    array = hlo.Array("bf16", dims, "")
    return collectives.is_of_parameters(array, shapes, [4], pieces=pieces)

  assert is_parameter((12, 512), True)
  assert not is_parameter((12, 512), False)
  assert not is_parameter((2, 12, 512), True)


PROGRAM = """
import json
import jax
import jax.numpy as jnp
from experiments.planning import collectives
from experiments.planning import costs
from experiments.planning import hlo
from simple_diffusion import sharding

mesh = sharding.make_mesh(data=1, fsdp=4)
P = jax.sharding.PartitionSpec
named = lambda *spec: jax.sharding.NamedSharding(mesh, P(*spec))
w = jax.ShapeDtypeStruct((6, 64, 64), jnp.float32, sharding=named(None, "fsdp"))
x = jax.ShapeDtypeStruct((16, 3, 64), jnp.float32, sharding=named("fsdp"))

def loss(w, x, spec):
  def layer(h, w):
    h = jax.lax.with_sharding_constraint(jnp.tanh(h @ w), named(*spec))
    return h, None
  return jnp.sum(jax.lax.scan(layer, x, w)[0])

for spec in (("fsdp",), ()):
  step = jax.jit(jax.grad(lambda w, x: loss(w, x, spec)),
                 out_shardings=named(None, "fsdp"))
  program = hlo.parse(step.lower(w, x).compile().as_text())
  found = collectives.read(program, 4)
  print(json.dumps({
    "flops": costs.flops(program),
    "bytes": sum(c.num_bytes for c in found if c.kind == "all-gather"),
    "reduced": sum(c.num_bytes for c in found if "reduce" in c.kind),
    "of_batch": sum(
      c.times * a.size_bytes
      for c in found for a in c.arrays
      if a.dims and not collectives.is_of_parameters(a, [w.shape], [4])),
    "axes": sorted({collectives.axes_of(c.group, dict(mesh.shape))
                    for c in found}),
  }))
"""


@pytest.fixture(scope="module")
def sharded(on_four_devices):
  lines = on_four_devices(PROGRAM).splitlines()
  return [json.loads(line) for line in lines]


def test_fsdp_moves_the_textbooks_bytes(sharded):
  parameters = 4 * 6 * 64 * 64
  assert sharded[0]["bytes"] == 2 * parameters  # forward, backward
  assert sharded[0]["reduced"] == parameters  # gradient
  assert sharded[0]["of_batch"] == 0
  assert sharded[0]["axes"] == ["fsdp"]
  # A quarter of the batch each, forward and two products backward.
  assert sharded[0]["flops"] == 6 * 3 * 2 * (4 * 3) * 64 * 64


def test_a_batch_gathered_by_accident_is_seen(sharded):
  assert sharded[1]["of_batch"] >= 4 * 16 * 3 * 64
