//! One connection a host.

use std::fs;
use std::time::Duration;

use handover::ssh::{ExecOptions, IdleTime, Pool, SshError};

use crate::sshd::wait_for;
use crate::support::{AT_ONCE, count, options, run, start, target};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn many_who_ask_at_once_share_one_connection_and_its_end() {
    let sshd = start(&[]);
    let pool = Pool::new(options(&[&sshd]));
    let target = target(&sshd, "box", "id_ed25519");
    let connections = futures::future::join_all((0..20).map(|_| pool.connect(&target))).await;
    let connections: Vec<_> = connections.into_iter().map(Result::unwrap).collect();
    for connection in &connections {
        assert!(connection.is_same(&connections[0]));
    }
    assert_eq!(run(&connections[7], "echo shared").await, "shared\n");
    let again = pool.connect(&target).await.unwrap();
    assert!(again.is_same(&connections[0]));
    assert_eq!(count(&sshd, "Connection from"), 1);

    // Every waiting caller hears of its death, and the next one gets another.
    let slow = connections.iter().take(5).map(|connection| {
        connection.exec("sleep 60", ExecOptions::new("a test").deadline(AT_ONCE * 2))
    });
    let kill = async {
        run(&again, "true").await;
        sshd.kill_connections();
    };
    let (results, ()) = tokio::join!(futures::future::join_all(slow), kill);
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, SshError::Lost { .. }), "{error:?}");
    }
    let next = pool.connect(&target).await.unwrap();
    assert!(!next.is_same(&again));
    assert_eq!(run(&next, "echo new").await, "new\n");

    // One that is retired is not handed out again, and works on for who has it.
    pool.retire(&next);
    let after = pool.connect(&target).await.unwrap();
    assert!(!after.is_same(&next));
    assert_eq!(run(&next, "echo old").await, "old\n");
    pool.close().await;
    assert!(after.is_closed());
    assert!(!next.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_connection_that_nobody_uses_is_closed_after_its_time() {
    let sshd = start(&[]);
    let target = target(&sshd, "box", "id_ed25519");
    for idle in [Duration::from_millis(300), Duration::ZERO] {
        let mut options = options(&[&sshd]);
        options.idle = IdleTime(idle);
        let pool = Pool::new(options);
        let held = pool.connect(&target).await.unwrap();
        let files = held.sftp().await.unwrap();
        drop(held);
        // Whatever works on the connection holds it too.
        tokio::time::sleep(idle * 3).await;
        let again = pool.connect(&target).await.unwrap();
        assert_eq!(run(&again, "echo open").await, "open\n");
        let goodbyes = count(&sshd, "Received disconnect");
        drop(files);
        drop(again);
        let closed = wait_for(AT_ONCE, || count(&sshd, "Received disconnect") > goodbyes);
        assert!(closed, "{:?}", sshd.log());
        let before = count(&sshd, "Connection from");
        let next = pool.connect(&target).await.unwrap();
        assert_eq!(run(&next, "echo new").await, "new\n");
        assert_eq!(count(&sshd, "Connection from"), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_failed_attempt_is_told_to_all_who_wait_and_made_anew() {
    let sshd = start(&[]);
    let options = options(&[&sshd]);
    let pool = Pool::new(options);
    let stranger = target(&sshd, "box", "stranger");
    let results = futures::future::join_all((0..5).map(|_| pool.connect(&stranger))).await;
    for result in results {
        let error = result.unwrap_err();
        assert!(
            matches!(error.unshared(), SshError::AuthFailed { .. }),
            "{error:?}"
        );
        assert!(!error.is_retryable_dial());
    }
    assert_eq!(count(&sshd, "Connection from"), 1);
    // Alone, one gets the error itself; and what failed is not remembered.
    let error = pool.connect(&stranger).await.unwrap_err();
    assert!(matches!(error, SshError::AuthFailed { .. }), "{error:?}");
    fs::copy(sshd.path("id_rsa"), sshd.path("stranger")).unwrap();
    let connection = pool.connect(&stranger).await.unwrap();
    assert_eq!(run(&connection, "echo in").await, "in\n");

    // An attempt that nobody waits for any more is given up; others who wait still get it.
    let other = Pool::new(pool.options().clone());
    let first = tokio::time::timeout(Duration::from_millis(1), other.connect(&stranger)).await;
    assert!(first.is_err());
    let (given_up, kept) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(1), other.connect(&stranger)),
        other.connect(&stranger)
    );
    assert!(given_up.is_err());
    assert_eq!(run(&kept.unwrap(), "echo in").await, "in\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn hosts_behind_one_bastion_share_its_connection_and_its_login() {
    let bastion = start(&[]);
    let hosts = [start(&[]), start(&[])];
    let pool = Pool::new(options(&[&bastion, &hosts[0], &hosts[1]]));
    let behind = |place: usize| {
        let mut through = target(&hosts[place], ["one", "two"][place], "id_ed25519");
        // A hop without a name of its own is called after the host behind it.
        let name = format!("{}.jump1", through.name);
        through.jumps = vec![target(&bastion, &name, "id_ed25519")];
        through
    };
    let targets = [behind(0), behind(1)];
    let (one, two) = tokio::join!(pool.connect(&targets[0]), pool.connect(&targets[1]));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(run(&one, "echo one").await, "one\n");
    assert_eq!(run(&two, "echo two").await, "two\n");
    // One more of somebody's own, and one in the place of one that has died.
    let apart = pool.connect_apart(&targets[0]).await.unwrap();
    assert!(!apart.is_same(&one));
    hosts[1].kill_connections();
    two.closed().await;
    let again = pool.connect(&targets[1]).await.unwrap();
    assert_eq!(run(&again, "echo again").await, "again\n");
    assert_eq!(count(&bastion, "Accepted publickey"), 1);
    assert_eq!(count(&hosts[0], "Accepted publickey"), 2);

    // One that is lost while a host behind it is dialled is made anew, and the host is dialled again.
    again.close().await;
    bastion.stop_connections();
    let lose = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bastion.kill_connections();
    };
    let (again, ()) = tokio::join!(pool.connect(&targets[1]), lose);
    let again = again.unwrap();
    assert_eq!(run(&again, "echo new").await, "new\n");
    assert_eq!(count(&bastion, "Accepted publickey"), 2);

    // One that falls silent is not handed out for ever, though nothing has noticed it yet.
    again.close().await;
    bastion.stop_connections();
    let next = tokio::time::timeout(AT_ONCE * 4, pool.connect(&targets[1])).await;
    assert_eq!(run(&next.unwrap().unwrap(), "echo new").await, "new\n");
    assert_eq!(count(&bastion, "Accepted publickey"), 3);
    pool.close().await;
}
