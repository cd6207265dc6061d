"""FedAvg, and local epochs on the final global model (Wang et al. 2019, "Federated Evaluation of On-Device
Personalization"; Cheng et al. 2021, "Fine-tuning is Fine in Federated Learning")."""

from lotteryfl.server.strategies.fedavg import FedAvg


class FedAvgFinetune(FedAvg):
    """The baseline that personalised methods have to beat; its result is the accuracy after local training.

    `strategy.finetune_epochs` says for how long, in any strategy; FedAvg's own result is the model as downloaded.
    """

    name = "fedavg-finetune"
