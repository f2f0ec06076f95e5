from twisted.application.service import ServiceMaker

groupcomm = ServiceMaker(
    "groupcomm daemon",
    "groupcomm.daemon.tap",
    "Process groups: reliable ordered multicast with views.",
    "groupcomm",
)
