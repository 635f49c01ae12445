//! A shard that sleeps is woken for every message.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;

use crate::runtime::key::TaskKey;
use crate::runtime::mailbox::{MailReceiver, mailbox};
use crate::runtime::ready::TenantId;
use crate::runtime::remote::Remote;
use crate::runtime::waker::TaskWaker;
use crate::runtime::wakeup::Wakeup;
use crate::{model, model_with};

const TASK: TaskKey = TaskKey { index: 1, generation: 1 };

/// The loop of a shard with one task, which reads a mailbox to its end.
fn shard(mut mail: MailReceiver<u32>) -> u32 {
    let wakeup = Wakeup::new();
    let remote = Arc::new(Remote::new(1, wakeup.clone()));
    let task = Arc::new(TaskWaker::new(TASK, remote.clone(), TenantId));
    let waker = Waker::from(task.clone());
    let mut sum = 0;
    loop {
        match mail.poll_recv(&mut Context::from_waker(&waker)) {
            Poll::Ready(Some(number)) => sum += number,
            Poll::Ready(None) => break,
            Poll::Pending => sleep(&remote, &wakeup, &task),
        }
    }
    sum
}

/// Turns of the loop until the task is ready again.
fn sleep(remote: &Remote, wakeup: &Wakeup, task: &TaskWaker) {
    loop {
        if remote.may_wait() {
            wakeup.wait();
        }
        remote.woken();
        let mut ready = false;
        for key in remote.injected() {
            assert_eq!(key, TASK);
            task.taken_from_injector();
            ready = true;
        }
        if ready {
            return;
        }
    }
}

#[test]
fn a_message_and_the_end_are_heard() {
    model(|| {
        let (sender, mail) = mailbox(2);
        let sending = thread::spawn(move || sender.try_send(1).unwrap());
        assert_eq!(shard(mail), 1);
        sending.join().unwrap();
    });
}

#[test]
fn two_senders_are_both_heard() {
    model_with(1, || {
        let (sender, mut mail) = mailbox(2);
        let other = sender.clone();
        let sending = thread::spawn(move || sender.try_send(1).unwrap());
        let sending_too = thread::spawn(move || other.try_send(2).unwrap());
        // The mailbox alone: how a shard sleeps is another story's.
        let sleeper = Arc::new(Sleeper(Wakeup::new()));
        let waker = Waker::from(sleeper.clone());
        let mut sum = 0;
        while sum < 3 {
            match mail.poll_recv(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(number)) => sum += number,
                Poll::Ready(None) => panic!("a message is lost"),
                Poll::Pending => sleeper.0.wait(),
            }
        }
        sending.join().unwrap();
        sending_too.join().unwrap();
    });
}

/// A thread that sleeps until it is woken.
struct Sleeper(Wakeup);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

#[test]
fn a_full_mailbox_is_woken_by_what_fills_it() {
    model(|| {
        let (sender, mail) = mailbox(1);
        let sending = thread::spawn(move || {
            // What does not fit is the sender's to deal with; what is in there is heard.
            (1..=2).filter(|number| sender.try_send(*number).is_ok()).sum::<u32>()
        });
        let heard = shard(mail);
        assert_eq!(heard, sending.join().unwrap());
    });
}

#[test]
fn a_mailbox_without_a_receiver_gives_messages_back() {
    model(|| {
        let (sender, mail) = mailbox(1);
        let receiving = thread::spawn(move || drop(mail));
        // Taken or not: it is not left behind, which loom would tell.
        let _ = sender.try_send(Arc::new(1));
        receiving.join().unwrap();
    });
}
