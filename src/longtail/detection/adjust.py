"""Post-hoc corrections of a trained box classifier. Background keeps its logit.

Shapes: C = classes without background, D = width of the box head.
"""

import torch
from torch import Tensor

from longtail.detection.model import BoxPredictor
from longtail.posthoc.tau_normalization import tau_normalized
from longtail.ranges import check_number


@torch.no_grad()
def adjust_classifier(predictor: BoxPredictor, correction: str, tau: float, instances_C: Tensor) -> None:
    """Correct the class logits of a box predictor in place.

    Args:
        predictor: Box predictor with C classes.
        correction: "LogitAdjustment" subtracts tau * log(n_c / mean n) from the logit of class c (Menon et al., ICLR
            2021, https://arxiv.org/abs/2007.07314). "TauNormalization" divides the weights of class c by the power tau
            of their length (Kang et al., ICLR 2020, https://arxiv.org/abs/1910.09217), and multiplies those of all
            classes by the power tau of the mean length, so that background keeps its share.
        tau: Strength; 0 changes nothing.
        instances_C: Training instances of each class. A class without any is not adjusted.

    Raises:
        InputError: If `tau` is negative.

    Example:
        >>> predictor = BoxPredictor(4, 2, "sigmoid")
        >>> before = predictor.cls_score.bias.clone()
        >>> adjust_classifier(predictor, "LogitAdjustment", 1.0, torch.tensor([30, 10]))
        >>> (predictor.cls_score.bias - before).detach()  # -log(30 / 20), -log(10 / 20)
        tensor([-0.4055,  0.6931])
    """
    check_number("tau", tau, at_least=0)
    classes = slice(-predictor.num_classes, None)
    weight_CD, bias_C = predictor.cls_score.weight[classes], predictor.cls_score.bias[classes]
    if correction == "LogitAdjustment":
        counts_C = instances_C.to(bias_C)
        present_C = counts_C > 0
        logs_C = (counts_C.clamp(min=1) / counts_C[present_C].mean()).log()
        bias_C -= tau * torch.where(present_C, logs_C, 0.0)
    else:
        mean = weight_CD.norm(dim=1).mean()
        weight_CD.copy_(tau_normalized(weight_CD, tau) * mean**tau)
