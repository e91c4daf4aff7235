//! Which container a word means.

use super::*;

fn network(containers: &[(&str, &str, u64)]) -> Info {
    let container = |(id, name, inode): &(&str, &str, u64)| {
        let json = serde_json::json!({
            "id": id, "name": name, "inode": inode, "attached": 0, "ports": []
        });
        serde_json::from_value(json).unwrap()
    };
    Info {
        rnsnet: String::new(),
        process: 1,
        called_as: "rnsnet".into(),
        network: "n1".into(),
        mtu: 1500,
        log_level: String::new(),
        containers: containers.iter().map(container).collect(),
    }
}

#[test]
fn a_word_means_one_container_on_all_its_networks_or_none() {
    let n1 = network(&[("abc1", "web", 7), ("abc2", "db", 8), ("fff0", "abc", 9)]);
    let n2 = network(&[("abc1", "web", 7), ("eee0", "db", 10)]);
    let meant = |name: &str| {
        let inode = name.strip_prefix('/').map(|inode| inode.parse().unwrap());
        places(name, inode, &[&n1, &n2]).map_err(|error| error.to_string())
    };
    let web = Ok(vec![(0, 0), (1, 0)]);
    assert_eq!((meant("web"), meant("abc1"), meant("/7")), (web.clone(), web.clone(), web));
    assert_eq!((meant("ee"), meant("abc")), (Ok(vec![(1, 1)]), Ok(vec![(0, 2)])));
    assert_eq!(
        meant("ab").unwrap_err(),
        "\"ab\" is the beginning of the id of more than one container"
    );
    assert_eq!(meant("db").unwrap_err(), "\"db\" is the name of more than one container");
    assert_eq!(meant("").unwrap_err(), "there is no container \"\"");
}
