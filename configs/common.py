# SPDX-License-Identifier: Apache-2.0
"""What the configs share: the training recipe of arXiv 2301.11093.

Every key of every config is here, with the paper's value where it has one
(appendix B, U-ViT) and its meaning. A config then states its differences. The
sections are handed to what they configure: model to the network, schedule to
`schedules.Schedule`, objective to `objective.diffusion_loss`, sample to
`sampler.sample` and `sampler.guide`.
"""

import ml_collections

placeholder = ml_collections.config_dict.placeholder


def get_config():
  """A config without a network; `data` is to be filled in."""
  config = ml_collections.ConfigDict()
  config.data = dict(
    name=placeholder(str),  # "digits", "folder" or the name of a TFDS set
    split="train",
    eval_split="test",
    data_dir=placeholder(str),  # None: where TFDS keeps its data sets
    image_size=placeholder(int),  # side in pixels; configs have squares
    num_channels=3,
    crop="center",  # "center", "random" or "squash"
    random_flip=True,
    num_threads=4,  # that load batches
    in_memory=False,  # decode a small training set once, at its start
  )
  config.schedule = dict(
    # Both at image_size: cosine. Equal: shifted. Different: interpolated; see
    # `schedules.interpolated_cosine` for the two directions.
    ref_at_noise=64.0,
    ref_at_data=64.0,
    logsnr_min=-15.0,
    logsnr_max=15.0,
  )
  config.objective = dict(
    prediction="v",
    loss_space="v",
    weighting="constant",  # in the loss space; see `objective` for others
    bias=0.0,  # of the sigmoid weighting
    gamma=5.0,  # of the min-SNR weighting
    multiscale_base=placeholder(int),  # 32 in the paper; None: plain MSE
  )
  config.optim = dict(
    lr=1e-4,
    warmup_steps=10_000,
    b1=0.9,
    b2=0.99,
    eps=1e-12,
    weight_decay=0.0,
    max_grad_norm=1.0,
  )
  config.train = dict(
    seed=0,
    batch_size=2048,  # over all devices
    accum_steps=1,  # parts that a batch is taken in, for memory
    total_steps=500_000,
    ema_decay=0.9999,
    label_dropout=0.1,  # the paper's value is not known
    # DEVIATION: "uniform" in the paper; the same objective, less variance.
    times="stratified",
    log_every_steps=100,
    checkpoint_every_steps=5_000,
    keep_checkpoints=2,
    sample_every_steps=10_000,
    num_samples=20,  # images in the grids while training
  )
  config.mesh = dict(data=-1, fsdp=1)  # see `sharding`; -1: the rest
  config.sample = dict(
    method="ancestral",  # one of sampler.METHODS
    num_steps=512,
    spacing="time",  # or "logsnr", for few steps of the other methods
    gamma=0.2,  # log-variance interpolation of "ancestral"
    clip=True,  # x_hat to [-1, 1]
    guidance_scale=1.0,  # 1 + eta; 1 is none
    guidance_interval=placeholder(tuple),  # of log-SNR; None: everywhere
  )
  config.eval = dict(batch_size=256, num_samples=50_000)
  return config
