"""The Flex Template: how Dataflow starts this program without a checkout."""
