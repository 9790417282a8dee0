"""Cross Knowledge Distillation: the method.

| in the paper | here | equation |
| --- | --- | --- |
| hybrid stream | `streams.photo_sequence` | 3 |
| semantically similar replacement | `streams.draw_samples`, `streams.replaced` | 4 |
| replacement probability P(u) | `schedules.ReplacementSchedule` | 4 |
| classification of each stream (TET) | `losses.tet_loss` | 5 |
| domain alignment (CKA of membrane potentials) | `losses.alignment_loss` | 6, 7 |
| spatio-temporal regulariser | `losses.TemporalCoefficient` | 8 |
| cross-architecture distillation | `losses.kd_loss` | 9 |
| phased distillation W(u) | `schedules.DistillationSchedule` | 10 |
| what is minimised | `objective.CKDObjective` | 11 |

The equations, their defaults and sources are in docs/method.md. A training step is no more than
this; examples/ckd_loop.py trains networks of other libraries by it::

    u = step / steps
    # The hybrid stream: photos, of which more and more give way to recordings.
    source_TBCHW = photo_sequence(photo_B3HW, time_steps)
    hybrid = replace_samples(source_TBCHW, dvs_TBCHW, replacement(u), random)
    hybrid_TBC, hybrid_TBN = student(hybrid.frames_TBCHW)
    dvs_TBC, dvs_TBN = student(dvs_TBCHW)
    c_T = coefficient()
    loss = (
        tet_loss(hybrid_TBC, label_B)
        + tet_loss(dvs_TBC, label_B, step_weight_T=1 - c_T)
        + 0.5 * alignment_loss(linear_cka(hybrid_TBN, dvs_TBN), c_T)
    )
    # The teacher guides until the phased weight has fallen to 0.
    if weight := distillation(u, replacement(u)):
        with torch.no_grad():
            teacher_BC = teacher(photo_B3HW)
        loss = loss + weight * kd_loss(hybrid_TBC, teacher_BC)
"""
