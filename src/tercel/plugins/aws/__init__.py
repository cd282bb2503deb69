"""aws.s3.*: objects of S3 and of stores that speak its protocol, and a trigger that waits for them.

The library botocore, which comes with boto3, is imported when a task runs, so that flows validate without it.
"""
